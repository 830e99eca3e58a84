"""What monitoring is about: predictions, labels, spools, spans, drift, alerts."""
