"""How stability changes with a parameter: critical values, spectra along a path, time scales, sensitivities."""
