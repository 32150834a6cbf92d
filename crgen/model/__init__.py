"""The network, its losses, training, metrics and weights. Knows tensors, never files of imagery or ``ee``."""
