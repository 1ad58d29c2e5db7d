"""What every request passes: security and metrics."""
