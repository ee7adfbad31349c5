"""Query and gallery to candidates to a decision, with reasons; calibration."""
