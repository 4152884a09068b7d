"""Every bound on what comes from outside, with its reason; nothing else in the server invents one.

A limit is either refused with a sentence (documents, lines) or dropped with a line in the editor's log (messages).
"""

from __future__ import annotations

HEADER_BYTES = 4096
"""One header line of a message; the two that the protocol knows have fewer than 100 bytes."""
MESSAGE_BYTES = 64 * 1024 * 1024
"""A message's body: the longest document that is kept, every character of it escaped, and a margin."""
NESTING = 100
"""Objects and lists inside each other; the protocol's own deepest message has about ten levels."""
ID_CHARACTERS = 256
"""A request's id as text; clients count or use UUIDs. Whole numbers fit 64 bits."""
URI_CHARACTERS = 16_384
"""Four times Linux' longest path, percent-encoded by the editor."""

DOCUMENTS = 4096
"""Open at the same time; an editor with a thousand tabs is a quarter of it."""
DOCUMENT_CHARACTERS = 5_000_000
"""A longer file is data: looking at it would slow the editor down."""
LINE_CHARACTERS = 20_000
"""A longer line is data or minified; VS Code does not colour such lines either."""
ALL_CHARACTERS = 200_000_000
"""Over all open documents: 0.2 GB of ASCII, 0.8 GB at worst."""
NOTEBOOK_CHARACTERS = 200_000
"""Of the cells above one, looked at from below; prompts see a few thousand."""

IGNORE_FILE_BYTES = 1_000_000
"""An ignore file; the longest collections of templates have 30 kB."""
IGNORE_LINES = 5_000
"""Different ones of an ignore file read without git: each is compiled once, in about 0.1 ms."""
IGNORE_LINE_CHARACTERS = 4096
"""Linux' longest path."""
FOLDER_ENTRIES = 10_000
"""Looked at for another name of the same file (a hard link)."""
FOLDERS_ABOVE = 256
"""Between a file and its repository; Linux allows a path of 2048 folders, nobody has 50."""
REMEMBERED_VERDICTS = 4096
"""Files whose ignore verdict is remembered: as many as documents."""
REMEMBERED_SETTINGS = 1024
"""Places (path, language) whose resolved settings are remembered."""
REMEMBERED_SENTENCES = 1024
"""Sentences that were shown and are not shown again; after this many the memory is cleared."""

GIT_S = 2.0
"""For one question to git: 400 times its usual 5 ms; a hostile pattern would take for ever."""
RULES_S = 4.0
"""For all rules of one file: git, the library after it, and a slow disk. Then the file is refused for now."""
VERDICT_S = 60.0
"""For which an unchanged set of ignore files answers; git also reads what is not looked at here (system settings)."""
CONFIGURATION_S = 0.5
"""For the client's answer to `workspace/configuration`: editors take milliseconds. The model then loads at defaults."""
EXIT_S = 1.0
"""From `exit` (or the editor's end) to the end of the process, whatever hangs; recording takes milliseconds."""
PARENT_S = 1.0
"""Between two looks whether the editor's process is there: 10 microseconds each."""
UNSENT_BYTES = 64 * 1024 * 1024
"""Waiting for a client that does not read: as for messages; then it is taken for gone."""

HOST_MESSAGE_BYTES = 8 * 1024 * 1024
"""Between an editor's server and the shared engine: the longest prompt's text, four bytes a character, and a margin."""
HOST_CONNECTIONS = 64
"""Editors at one shared engine; nobody has so many windows."""
HOST_MESSAGES = 4000
"""Of one connection in HOST_MESSAGES_S: ten times what a server causes that asks and cancels without a pause."""
HOST_MESSAGES_S = 2.0
HELLO_S = 3.0
"""For either side to say who it is; it takes a millisecond."""
QUEUE_S = 1.0
"""For those in front of us to be greeted, where more connect at once than the system queues; a greeting takes 1 ms."""
QUEUE_STEP_S = 0.01
"""Between two attempts meanwhile."""
REST_OF_MESSAGE_S = 10.0
"""From a message's first byte to its last, over a local socket."""
SEND_S = 1.0
"""For a message to fit into the other side's buffer; who does not read is taken for gone."""
START_ENGINE_S = 10.0
"""For a new engine to listen; it takes 0.2 s."""
OPEN_MODEL_S = 900.0
"""For a model to load, the first time its graphs are built."""
CANCEL_HEARD_S = 10.0
"""From a cancel to the engine's answer: a hundred times the longest segment; then the engine is taken for hung."""
GRACE_S = 5.0
"""Without any editor before the engine ends: a window that is loaded again finds its model."""

TEAM_ANSWER_S = 0.5
"""For a team's engine to answer; then the user's own completes."""
TEAM_AWAY_S = 15.0
"""For which a team's engine that did not answer is left alone."""

OTHER_FILES = 20
"""Read or looked at for one selection of other files' text; Copilot looks at as many."""
OTHER_FILE_BYTES = 200_000
"""A longer file is generated or data; the longest module of CPython's library has 250 kB."""
OTHER_LINE_CHARACTERS = 400
"""A chunk with a longer line is data."""
OTHER_CHUNKS = 16
"""In one prompt; llama.vim's number. The budget of tokens ends before that."""
OTHER_ENTRIES = 1000
"""Of a folder, looked at for neighbours of a file."""
OTHER_TOUCHED = 256
"""Documents whose last use is remembered."""
OTHERS_S = 0.1
"""That a request waits for other files to be read; after it the suggestion is made without them."""
OTHERS_FRESH_S = 1.0
"""For so long a selection is taken as it is; then ignore rules and files on the disk are looked at again."""
REQUEST_CHUNKS = 32
"""Of other files, in one request: twice OTHER_CHUNKS."""
REQUEST_CHUNK_CHARACTERS = 20_000
"""In one of them: twice what its two dozen lines of OTHER_LINE_CHARACTERS are."""
BRANCH_IDS = 1024
"""Tokens kept of the suggestion that another one departs from: twice the longest suggestion's."""
BRANCH_TEXTS = 16
"""That it may not begin with; four are tried."""
BRANCH_TEXT_BYTES = 256
"""In one of them, which is one token's: those of public models have 128 at most."""
ALTERNATIVES_S = 1.0
"""From the first suggestion to the last, where the user asks for several: who asks waits for all."""
