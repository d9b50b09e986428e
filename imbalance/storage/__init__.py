"""Storage: files that are whole or not there, the store of runs, joined datasets, records."""
