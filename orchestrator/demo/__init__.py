"""The demonstration: the whole product on one machine, with sample traffic whose outcome is known beforehand."""
