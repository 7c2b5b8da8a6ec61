"""Order fulfilment: reserve inventory, charge payment, ship, confirm; and back again."""
