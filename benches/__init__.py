"""The yardstick: one stock kernel and one guest benchmark on Xenion and on its peers, side by side."""
