"""Every operator and every network measured beside its reference: `medseg bench`."""
