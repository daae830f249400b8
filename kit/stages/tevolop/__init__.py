"""What of TEvolOp runs inside the image: catalogue to time series, training, forecasts, score."""
