"""Request bodies: uploads, URLs and form fields, validated while they are received."""
