"""What is computed of replayed decisions: quality and its noise, calibration, cost curves, strong-weak pairs."""
