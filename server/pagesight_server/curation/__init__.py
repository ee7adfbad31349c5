"""What a person should put right in a gallery: diagnostics and brand mining."""
