# Every sentence of the page, in English. Syntax: projectfluent.org/fluent/guide

## Around every view
nav-home = Overview
nav-pair = Pair a device
nav-conflicts = Conflicts
nav-deleted = Recently deleted
nav-health = Health
nav-settings = Settings
page-skip = To the content
page-nav = Views
page-gone = storysync is not running at the moment. This page comes back by itself.
page-changed = Something changed meanwhile. What you typed is still here; load the page again to see what is new.
page-copied = Copied
page-copy = Copy
page-cancel = Cancel
page-pages = Pages
page-before = Newer
page-after = Older
page-of = Page { $page } of { $pages }
locked-title = This page is locked
locked-how = Open it from this computer: with the storysync entry in the list of programs, or with this command.
refused-title = That did not work
refused-home = Back to the overview

## Words used in many places
device-this = this device
device-before = before syncing
device-unnamed = a device without a name
device-unknown = No device of this id is known here.
row-without-name = { $table } without a name
time-unknown = at an unknown time
time-future = in the future, by its clock
time-now = just now
time-minutes = { $count ->
    [one] a minute ago
   *[other] { $count } minutes ago
}
time-hours = { $count ->
    [one] an hour ago
   *[other] { $count } hours ago
}
time-days = { $count ->
    [one] yesterday
   *[other] { $count } days ago
}
value-none = nothing
value-empty = empty
value-yes = yes
value-no = no
value-bytes = { $size } bytes
value-bytes-kind = { $size } bytes, { $kind }
action-existed = was there before
action-created = created
action-edited = edited
action-deleted = deleted
action-restored = brought back
action-filled = filled by an upgrade of the app
action-rewritten = written again
operation-create = created
operation-update = edited
operation-delete = deleted

## Overview
home-title = Overview
home-unreadable = The app's database can't be read at the moment. Look at Health.
home-waiting = { $count ->
    [one] One thing waits for you.
   *[other] { $count } things wait for you.
}
home-alone = No other device is paired yet.
home-pair = Pair a device
home-syncing = Your devices are exchanging changes.
home-away = { $names } can't be reached at the moment. Changes are kept and sent when the device is back.
home-partly = All is well. { $names } can't be reached at the moment and gets its changes later.
home-in-step = All is well: every device is in step.
home-decide = { $count ->
    [one] Decide a conflict
   *[other] Decide { $count } conflicts
}
home-notices = { $count ->
    [one] A text from another device gave way to what was saved here.
   *[other] { $count } texts from other devices gave way to what was saved here.
}
home-notices-look = Look at it
home-devices = Devices
home-no-devices = None yet.
home-nearby = Nearby, not paired
home-pair-it = Pair it
home-latest = Last changes
home-nothing-yet = Nothing has happened yet.
standing-in-step = In step
standing-pending = { $count ->
    [one] One change to send
   *[other] { $count } changes to send
}
standing-syncing = Syncing, { $percent } %
standing-progress = Progress
standing-away = Away; last in step
standing-never = Away; never reached yet
standing-rests = Paused: nothing is taken from it
question = { $by } says that { $of } was lost. Is that so?
question-revoke = Yes, send { $of } away
question-keep = No, { $of } stays
hold = { $by } wants to delete { $deleted } rows and to empty { $emptied } more ({ $tables }). Nothing of it was done here.
hold-refuse = Keep the rows, on all devices
hold-approve = Let it delete them
hold-approved = The deletions were let through.
hold-refused = The rows stay, on all devices.

## Pairing
pair-title = Pair a device
pair-show-title = Show a code here
pair-show-how = Scan it with the phone, or paste its text on the other computer.
pair-show = Show a code
pair-another = Show another code
pair-picture = The code as a picture
pair-valid = For one device, still valid for
pair-text = The code as text
pair-asks = { $name } asks to be paired.
pair-code-label = The four digits it shows
pair-code-send = Let it in
pair-approved = Right. The other device finishes by itself.
pair-join-title = Or use a code the other device shows
pair-name-title = What this device is called
pair-name-label = Name of this device
pair-name-save = Save
pair-name-empty = A device needs a name.
pair-named = This device is called { $name } now.
join-how = Paste the text of the code, or choose or drop a picture of it.
join-text = Text of the code
join-picture = Picture of the code
join-go = Pair
join-nothing = Paste the text of a code, or choose a picture of it.
join-own = This is this device's own code: use it on the other device.
join-type = Type these digits on the other device:
join-wait = It goes on by itself once they are typed.
join-calling = Calling the other device …

## Conflicts
conflicts-title = Conflicts
conflicts-none = No conflict waits for you.
conflicts-how = Two devices wrote different things without having seen each other's. Both are kept until you decide.
conflicts-choose = Choose { $row }
conflicts-take-mine = Take what was written here …
conflicts-take-theirs = Take what came from elsewhere …
conflicts-all = all { $count }
conflicts-ended = Conflicts that are over
conflicts-none-chosen = No conflict was chosen.
conflicts-decided = { $count ->
    [one] One conflict was decided.
   *[other] { $count } conflicts were decided.
}
conflicts-left = { $count } could not be: { $why }
kind-field = Written differently
kind-delete-edit = Deleted on one device, edited on another
kind-orphan = What it belongs to was deleted
kind-unique = The same name twice
kind-ring = Moved into each other
kind-schema = A value the table does not take
conflict-gone = This conflict is over, or was never there.
conflict-changed = The conflict has changed meanwhile; look at it again.
conflict-history = History of this row
conflict-context = What else the row holds
conflict-others = It is about these rows, too:
conflict-shown = shown now
conflict-before = What stood there before
conflict-own = Something of my own:
conflict-own-label = My own text for { $field }
conflict-decided = { $row } was decided.
way-keep = Keep the row
way-delete = Delete the row
way-rename = Rename one of them
way-mine = Take what was written here
way-theirs = Take what came from elsewhere
way-fields = Decide
notices-title = Texts that gave way
notices-how = Something saved here replaced a text from another device, and nobody can say whether it had been read.
notice-back = Put it back
notice-go = Let it go
notice-done = Done.
preview-title = Before you decide
preview-mine = { $count ->
    [one] In one conflict, what was written here would be taken.
   *[other] In { $count } conflicts, what was written here would be taken.
}
preview-theirs = { $count ->
    [one] In one conflict, what came from elsewhere would be taken.
   *[other] In { $count } conflicts, what came from elsewhere would be taken.
}
preview-row = Row
preview-field = Field
preview-now = Shown now
preview-then = Then
preview-more = And { $count } more.
preview-go = { $count ->
    [one] Decide it
   *[other] Decide these { $count }
}
ended-title = Conflicts that are over
ended-none = None yet.
ended-open = Open conflicts
ended-resolved = decided
ended-superseded = settled by a later edit
ended-take-back = Take the decision back
ended-taken-back = The decision was taken back: the row shows what it showed before.
ended-not-found = What decided this conflict can't be found any more; take it back in the row's history.

## Rows
row-holds = What it holds
row-history = What happened to it
row-take-back = Take this change back
row-taken-back = The change was taken back.
deleted-title = Recently deleted
deleted-how = What was deleted on any device can be brought back, on all of them.
deleted-none = Nothing was deleted.
deleted-bring-back = Bring back

## Devices
device-not-paired = Not paired with this device.
device-paired = Paired
device-addresses = Addresses
device-no-address = None known
device-traffic = Since this node started
device-traffic-words = { $pulled } rows came from it, { $pushed } went to it
device-owner = Owner
device-twice = Its keys are in use in two places, seen
device-number = Safety number
device-number-how = The other device shows the same. Read it to each other to be sure.
device-sent = What it changed here
device-sent-nothing = Nothing yet.
device-ways = What you can do
device-make-owner = Make it an owner
device-make-owner-how = What an owner says was lost is sent away here without a question.
device-is-owner = The device is an owner now.
device-rename = What you call it
device-rename-save = Call it so
device-called = It is called { $name } here now.
device-rename-how = Empty: as it calls itself.
device-pause = Pause it
device-resume = Let it go on
device-paused = The device is paused: it is neither called nor answered.
device-resumed = The device goes on.
device-revoke = Send it away …
device-kept = The device stays.
undo-title = Take back what it wrote
undo-how = For an emergency. You see first what would change.
undo-since = Since
undo-hour = an hour ago
undo-day = a day ago
undo-week = a week ago
undo-look = Look at it first
undo-would = { $count ->
    [0] Nothing would change. Written since
    [one] One row would change. Written since
   *[other] { $count } rows would change. Written since
}
undo-left = { $count ->
    [one] One change came when the two first met and claims to be older: it stays.
   *[other] { $count } changes came when the two first met and claim to be older: they stay.
}
undo-row-deleted = The row would be deleted again.
undo-row-restored = The row would be brought back.
undo-overwritten = Written again since, so it stays:
undo-go = { $count ->
    [one] Take it back in this row
   *[other] Take it back in { $count } rows
}
undone = { $count ->
    [one] One row was taken back.
   *[other] { $count } rows were taken back.
}
revoke-title = Send { $name } away?
revoke-what = { $name } loses its keys: it can't read or send anything here any more, and your other devices are told.
revoke-keeps = What it has already received stays on it. To come back it must be paired again.
revoke-go = Send { $name } away
revoked = { $name } is no longer paired with this device.

## Health
health-title = Health
health-checks = Checks
health-checking = Checking …
health-checked = Checked
health-check = Check now
health-failed = The check did not work:
finding-fine = Fine
finding-note = Note
finding-problem = Problem
health-numbers = Numbers
health-rows = Rows
health-changes = Changes remembered
health-parked = Rows that wait for others
health-quarantined = Changes that were refused
health-file = Database
health-data = Keys, settings, backups
health-backups = Backups
health-backup = Make a backup now
health-backed-up = The database was backed up, and the copy checked.
health-no-backups = None yet.
health-restore = How to put one back
health-restore-how = Close the app, stop storysync, and copy the backup over the database. What the other devices got since comes back with the next sync; what only this device had since then is lost.
health-log = Devices and decisions

## Settings
settings-title = Settings
settings-save = Save
settings-others = Everything else
settings-how = What stands in the settings file counts from the next start on:
settings-key = Setting
settings-value = Value
settings-from = From
settings-saved = Saved; it counts from now on.
settings-saved-later = Saved; it counts from the next start on.
setting-name = What this device is called
setting-pairing-approval = Who scans a code is let in
setting-pairing-seconds = How long a code can be used
setting-asked-about = While you are asked whether a device was lost
setting-batch-size = Rows sent at once
setting-conflict-resolution = Conflicts with what a phone without storysync sends
choice-code = when its four digits are typed here
choice-none = at once
choice-keep = it goes on syncing
choice-pause = it waits
choice-merge = wait for you, what fits is merged
choice-manual = wait for you
choice-desktop-wins = the desktop's value counts
choice-mobile-wins = the phone's value counts
choice-timestamp = the later value counts
unit-seconds = seconds
unit-rows = rows
source-default = default
source-remembered = remembered
source-file = from the settings file
source-environment = from the environment
source-flag = from how it was started
settings-end-title = End storysync
settings-end-how = Until it is started again, edits are noted and wait.
settings-end = End it
settings-ended = storysync has ended. Start it again from the list of programs, or with

## The app's panel
embed-title = Syncing
embed-more = Everything else

## First run
first-title = Welcome
first-none = There is no database here:
first-path = Where the database is
first-use = Use this one
first-create-how = Or begin with a new, empty world.
first-create = Create a new database
first-found = Found the database
first-counted = It has { $tables } tables with { $rows } rows, and was not prepared for syncing yet.
first-what = What happens now
first-backup = A copy is made first, in
first-adds = Each table gets four columns for syncing; what you wrote stays as it is, and the app goes on as before.
first-verifies = Every row is compared with the copy.
first-go = Prepare it
first-again = Try again
first-other-ports = Use other ports
first-starting = One moment …
first-look = Look whether it is ready
