"""The chassis that Slipway's services share. It knows no business noun."""
