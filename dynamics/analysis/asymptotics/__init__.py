"""What runs do in the long run: Lyapunov exponents, basins of attraction, stationary noise."""
