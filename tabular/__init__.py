"""Networks on tables: inputs, architectures, training, and what a prediction hangs on."""
