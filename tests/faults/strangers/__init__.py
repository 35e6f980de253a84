"""What strangers try against a service that everybody reaches."""
