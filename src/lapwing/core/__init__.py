"""Types, arrays, keyed random streams, names and storage: what every other room stands on."""
