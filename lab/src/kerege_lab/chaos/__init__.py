"""The chaos run: real agents, broker, collector and store, all of them broken at random moments; then an audit by identity.

plan       which faults, when, for how long (pure: a seed gives the same plan)
town       the parts, as real processes, and what is between them
faults     what each fault does to the town
watch      what the agents made, and what the collector acknowledged
recover    how soon records flow again after a link came back (pure)
run        the plan carried out in the town, and the end awaited
report     the figures, for people and as JSON
command    `kerege-lab chaos` itself
disks, clocks   small disks that can be filled; wall clocks that can be set
"""
