"""What report.html says, worked out from a run's record: sections as plain data, ready for a template without arithmetic.

Rules (report-style.md):
- The order is that of three readings: decision, claims, (variants,) what broke, under faults, distributions, the ruler,
  what the run does not show, how to repeat it.
- A heading states the finding, a chart has a sentence that a careful reader can verify, a percentage never stands without
  its n, and what was not measured is a dash.
- Same record, same sections: nothing here looks at a clock, at the machine or at the directory's place.
"""
