"""What a person should put right: diagnostics, brand mining, known items and review figures."""
