"""The door: command lines parsed, errors shown, nothing computed."""
