"""Money transfers with approval: "Transfer 6000 to Kiran"."""
