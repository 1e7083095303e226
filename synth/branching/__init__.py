"""Series-parallel programs: sequences in which some steps are blocks of branches that part at one value and meet in a merge."""
