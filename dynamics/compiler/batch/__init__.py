"""From the jaxpr of one game to the jaxpr of a batch, with the batch axis last, equation by equation."""
