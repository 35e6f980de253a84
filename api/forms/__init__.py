"""What arrives in a request: uploads, URLs and form fields, checked while they come."""
