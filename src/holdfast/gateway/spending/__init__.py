"""What calls may spend: worst cases reserved on leases before they are sent, and settled after."""
