"""What keeps a store in order: its index, calibration, tuning, removal."""
