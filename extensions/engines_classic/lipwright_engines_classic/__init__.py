"""The engines dinet, ultralight and edtalk, for weights that the user brings."""
