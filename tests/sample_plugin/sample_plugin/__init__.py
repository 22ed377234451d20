"""What a package of your own may hold: an environment, an algorithm, a policy and a tool."""
