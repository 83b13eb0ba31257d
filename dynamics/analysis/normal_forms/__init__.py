"""What the terms beyond the linear part decide: Taylor coefficients, amplitude equations, conserved quantities."""
