"""Configurations as people write them: every style that YAML leaves them.

A line with KEEP in it belongs to no outpost.
"""

from __future__ import annotations

from collections.abc import Mapping

_PLAIN = """\
outposts:
  - name: local
    type: local
    max_workers: 4
  - name: second
    type: local
"""

_APART = """\
# KEEP: ours

outposts:

  # the one in front of me
  - name: local
    type: local   # tmux
    #root: /fast/disk

  # fast, but shared
  - name: shared
    type: ssh
    host: shared.example.org

    # only at night
    max_workers: 2

# KEEP: where tasks run
policy: {default_preference: [local, shared]}
"""

_NO_INDENT = """\
---
outposts:
- name: local
  type: local
# the big one
- name: big
  type: ssh
  host: big.example.org
# KEEP: rules
policy:
  overrides:
  - condition: priority >= P3   # KEEP
    prefer: [local, big]
...
# KEEP: behind the end
"""

_FLOW_LINES = """\
defaults: {agent: claude}   # KEEP
outposts: [
  # the usual one
  {name: local, type: local},   # here
  {name: far, type: ssh, host: far.example.org},
]
"""

_FLOW_LINES_BARE = """\
outposts: [
    {name: local, type: local},
    {name: far, type: ssh, host: far.example.org}   # no comma behind
]
budget: {daily: 10}  # KEEP
"""

_FLOW_ONE_LINE = "outposts: [{name: a, type: local}, {name: b, type: local}]  # KEEP"

_JSON = """\
{
  "outposts": [
    {
      "name": "local",
      "type": "local"
    },
    {
      "name": "other",
      "type": "local",
      "labels": {"gpu": true}
    }
  ],
  "policy": {"default_preference": ["local", "other"]}
}
"""

_JSON_ONE_LINE = '{"outposts": [{"name": "a", "type": "local"}], "budget": {"daily": 3}}'

_QUOTES = """\
'outposts':
    - "name":  'local'
      "type":  "local"
      labels:  [ linux , "big" ]   # with    blanks
    - 'name':  "zweite-maschine"   # die große, für später: „Ümläute“ ✓
      'type':  'local'
      root: "/srv/\\u00e4/\\
        x"
"""

_BLOCKS = """\
outposts:
  - name: local
    type: ssh
    motd: |
      # not a comment

      - nor an outpost
    note: >-
      folded
      text

  - name: other
    type: ssh
    script: |+
      echo

policy:   # KEEP
  placement: spread
"""

_ANCHORS = """\
outposts:
  - &first
    name: first
    type: ssh
    labels: &labels {region: eu}
    host: first.example.org
  - <<: *first   # as the first
    name: second
  - {name: third, type: ssh, host: third.example.org, labels: *labels}
policy:
  default_preference: [first, [second, {region: eu}]]
  overrides:
    - condition: "priority >= P3"   # KEEP
      prefer: {region: eu}
"""

_DASH_ALONE = """\
outposts:
  -
    name: local
    type: local
  -
    # the other one
    name: other
    type: ssh
    env:
      # of the kind
      A: b

"""

_LONG = f"""\
outposts:
  - name: local
    type: local
    root: /{"long/" * 80}end   # {"far to the right " * 12}

  - {{name: other, type: ssh, host: h, note: "{"x" * 300}"}}
"""

_COMMENTED_OUT = """\
outposts:
  - name: local
    type: local
  # - name: gone    KEEP
  #   type: ssh     KEEP

  # - name: never   KEEP
  - name: other
    type: local
  # - name: last    KEEP
"""

_ORIGINAL_ORDER = """\
%YAML 1.2
---
budget:
    daily: 5          # KEEP
outposts:
    -   type: local
        max_workers: 3
        name: local
    -   type: local
        name: other
        enabled: false
sources:
    github: {token: "env://GITHUB_TOKEN"}   # KEEP
"""

_RULES = """\
outposts:
  - {name: a, type: local, labels: {speed: slow}}
  - {name: b, type: local, labels: {speed: fast}}
  - {name: c, type: local, labels: {speed: fast}}

policy:
  default_preference:
    # cheap ones first
    - a
    - [b, c]        # equals
  overrides:
    - condition: priority == P0
      prefer: [b, a]
      deny:
        - c
    # KEEP: labels
    - condition: type == bug
      require: {speed: fast}
"""

FILES: Mapping[str, str] = {
    "plain": _PLAIN,
    "blank lines between": _APART,
    "dashes below the key": _NO_INDENT,
    "brackets over lines": _FLOW_LINES,
    "brackets over lines, no last comma": _FLOW_LINES_BARE,
    "brackets on one line, no end": _FLOW_ONE_LINE,
    "JSON": _JSON,
    "JSON on one line": _JSON_ONE_LINE,
    "quotes, blanks and other letters": _QUOTES,
    "blocks of text": _BLOCKS,
    "anchors": _ANCHORS,
    "dashes alone": _DASH_ALONE,
    "long lines": _LONG,
    "commented out": _COMMENTED_OUT,
    "wide indentation": _ORIGINAL_ORDER,
    "rules": _RULES,
    "CR LF": _APART.replace("\n", "\r\n"),
    "CR LF, no end": _PLAIN.replace("\n", "\r\n").rstrip("\r\n"),
    "tabs behind": _PLAIN.replace("local\n", "local\t# here\t\n"),
}

WITHOUT_OUTPOSTS = (
    "",
    "# KEEP\n",
    "# KEEP",
    "budget: {daily: 3}  # KEEP\n",
    "budget: {daily: 3}  # KEEP",
    "budget:\r\n  daily: 3  # KEEP\r\n",
    "---\nbudget: {daily: 3}\n...\n# KEEP\n",
    "outposts:\n  # - name: KEEP\n  #   type: ssh\nbudget: {daily: 3}\n",
    "outposts: # KEEP\n",
    "outposts: null   # KEEP\nbudget: {daily: 3}\n",
    "outposts:",
    "budget: {daily: 3}\noutposts: ~",
    "{}\n",
    '{"budget": {"daily": 3}}\n',
    "  budget: {daily: 3}\n  defaults: {agent: codex}  # KEEP\n",
)
