"""What the documentation is generated from: public names, the catalogues, the schema of studies, docstrings."""
