"""Fine-tuning: data, training, merging, export, evaluation. Importing it loads nothing heavy."""
