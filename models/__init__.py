"""What is computed: networks and geometry. Plain Python: no Ray, no HTTP, no state outside the objects."""
