"""What a deploy does to time series, way by way of finding targets: `make bench-continuity`."""
