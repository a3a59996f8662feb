"""Side-by-side measurements against peers. bench/README.md says how to read them."""
