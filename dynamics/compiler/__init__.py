"""Programs (jaxprs) read, and evaluated in other ways than JAX does; imports nothing of the library."""
