"""The stages of CANDLE-UNO, which run in the image."""
