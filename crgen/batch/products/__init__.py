"""Products in folders and stores: list, page, deliver, prune."""
