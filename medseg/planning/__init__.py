"""From a dataset to what to train on it: fingerprint, rules, plan."""
