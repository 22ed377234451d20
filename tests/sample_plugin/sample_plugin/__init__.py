"""What a package of your own may hold: an algorithm, a policy and a tool."""
