"""Who is who, and who may do what: sign-in, sessions, keys, rules, and the log of what was asked and refused."""
