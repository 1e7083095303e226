"""Search: strategies propose changed graphs from the archive of what was learned. They see graphs and numbers, and nothing else.

    strategy = strategies.build(config)                     # config.search.strategy names it
    archive = Archive(("error", "params", "macs"), members, proposed)
    proposal = strategy.propose(archive, rng)               # pure: equal archives and generators give equal proposals
    match proposal.answer: case New(graph): …  case Failure(cause, message): …

Nothing is imported here: `alphanas.search(config)` is this name too, and `import alphanas` is quick.
"""
