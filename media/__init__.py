"""Reading and writing sound and pictures: the only code that touches PyAV."""
