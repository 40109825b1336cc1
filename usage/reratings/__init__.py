"""A wrong price is mended: the calls of a range are priced anew, shown before it is done, and billed once."""
