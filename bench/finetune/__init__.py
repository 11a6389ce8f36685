"""What fine-tuning costs: data, training, exports."""
