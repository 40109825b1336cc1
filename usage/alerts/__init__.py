"""What somebody should look at, told once to whoever wants to know: found, put down, and delivered until it arrives."""
