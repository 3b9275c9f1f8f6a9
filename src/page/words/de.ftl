# Alle Sätze der Seite auf Deutsch. Schreibweise: projectfluent.org/fluent/guide

## Um jede Ansicht
nav-home = Übersicht
nav-pair = Gerät koppeln
nav-conflicts = Konflikte
nav-deleted = Kürzlich gelöscht
nav-health = Zustand
nav-settings = Einstellungen
page-skip = Zum Inhalt
page-nav = Ansichten
page-gone = storysync läuft gerade nicht. Diese Seite kommt von selbst wieder.
page-changed = Inzwischen hat sich etwas geändert. Was du getippt hast, steht noch da; lade die Seite neu, um das Neue zu sehen.
page-copied = Kopiert
page-copy = Kopieren
page-cancel = Abbrechen
page-pages = Seiten
page-before = Neuere
page-after = Ältere
page-of = Seite { $page } von { $pages }
locked-title = Diese Seite ist verschlossen
locked-how = Öffne sie von diesem Rechner aus: mit dem Eintrag storysync in der Programmliste oder mit diesem Befehl.
refused-title = Das ging nicht
refused-home = Zurück zur Übersicht

## Wörter, die oft vorkommen
device-this = dieses Gerät
device-before = vor dem Abgleich
device-unnamed = ein Gerät ohne Namen
device-unknown = Ein Gerät mit dieser Kennung ist hier nicht bekannt.
row-without-name = { $table } ohne Namen
time-unknown = zu unbekannter Zeit
time-future = in der Zukunft, nach seiner Uhr
time-now = gerade eben
time-minutes = { $count ->
    [one] vor einer Minute
   *[other] vor { $count } Minuten
}
time-hours = { $count ->
    [one] vor einer Stunde
   *[other] vor { $count } Stunden
}
time-days = { $count ->
    [one] gestern
   *[other] vor { $count } Tagen
}
value-none = nichts
value-empty = leer
value-yes = ja
value-no = nein
value-bytes = { $size } Bytes
value-bytes-kind = { $size } Bytes, { $kind }
action-existed = war schon da
action-created = angelegt
action-edited = geändert
action-deleted = gelöscht
action-restored = zurückgeholt
action-filled = von einer neuen Fassung der App ausgefüllt
action-rewritten = noch einmal geschrieben
operation-create = angelegt
operation-update = geändert
operation-delete = gelöscht

## Übersicht
home-title = Übersicht
home-unreadable = Die Datenbank der App ist gerade nicht lesbar. Sieh unter Zustand nach.
home-waiting = { $count ->
    [one] Eine Sache wartet auf dich.
   *[other] { $count } Sachen warten auf dich.
}
home-alone = Noch ist kein anderes Gerät gekoppelt.
home-pair = Gerät koppeln
home-syncing = Deine Geräte tauschen gerade Änderungen aus.
home-away = { $names } ist gerade nicht erreichbar. Änderungen bleiben liegen und gehen hinaus, sobald das Gerät zurück ist.
home-partly = Alles in Ordnung. { $names } ist gerade nicht erreichbar und bekommt seine Änderungen später.
home-in-step = Alles in Ordnung: Jedes Gerät ist auf demselben Stand.
home-decide = { $count ->
    [one] Einen Konflikt entscheiden
   *[other] { $count } Konflikte entscheiden
}
home-notices = { $count ->
    [one] Ein Text von einem anderen Gerät ist dem gewichen, was hier gespeichert wurde.
   *[other] { $count } Texte von anderen Geräten sind dem gewichen, was hier gespeichert wurde.
}
home-notices-look = Ansehen
home-devices = Geräte
home-no-devices = Noch keines.
home-nearby = In der Nähe, nicht gekoppelt
home-pair-it = Koppeln
home-latest = Letzte Änderungen
home-nothing-yet = Noch ist nichts geschehen.
standing-in-step = Auf demselben Stand
standing-pending = { $count ->
    [one] Eine Änderung zu senden
   *[other] { $count } Änderungen zu senden
}
standing-syncing = Gleicht ab, { $percent } %
standing-progress = Fortschritt
standing-away = Nicht da; zuletzt auf demselben Stand
standing-never = Nicht da; noch nie erreicht
standing-rests = Angehalten: Von ihm wird nichts angenommen
question = { $by } sagt, dass { $of } verloren ging. Stimmt das?
question-revoke = Ja, { $of } ausschließen
question-keep = Nein, { $of } bleibt
hold = { $by } möchte { $deleted } Zeilen löschen und { $emptied } weitere leeren ({ $tables }). Hier ist davon noch nichts geschehen.
hold-refuse = Die Zeilen behalten, auf allen Geräten
hold-approve = Löschen lassen
hold-approved = Die Löschungen wurden zugelassen.
hold-refused = Die Zeilen bleiben, auf allen Geräten.

## Koppeln
pair-title = Gerät koppeln
pair-show-title = Hier einen Code zeigen
pair-show-how = Scanne ihn mit dem Telefon oder füge seinen Text auf dem anderen Rechner ein.
pair-show = Code zeigen
pair-another = Einen anderen Code zeigen
pair-picture = Der Code als Bild
pair-valid = Für ein Gerät, noch gültig für
pair-text = Der Code als Text
pair-asks = { $name } möchte gekoppelt werden.
pair-code-label = Die vier Ziffern, die es zeigt
pair-code-send = Hereinlassen
pair-approved = Richtig. Das andere Gerät macht von selbst weiter.
pair-join-title = Oder den Code eines anderen Geräts verwenden
pair-name-title = Wie dieses Gerät heißt
pair-name-label = Name dieses Geräts
pair-name-save = Speichern
pair-name-empty = Ein Gerät braucht einen Namen.
pair-named = Dieses Gerät heißt jetzt { $name }.
join-how = Füge den Text des Codes ein, oder wähle ein Bild davon oder zieh es hierher.
join-text = Text des Codes
join-picture = Bild des Codes
join-go = Koppeln
join-nothing = Füge den Text eines Codes ein oder wähle ein Bild davon.
join-own = Das ist der Code dieses Geräts: Verwende ihn auf dem anderen.
join-type = Gib diese Ziffern auf dem anderen Gerät ein:
join-wait = Danach geht es von selbst weiter.
join-calling = Das andere Gerät wird gerufen …

## Konflikte
conflicts-title = Konflikte
conflicts-none = Kein Konflikt wartet auf dich.
conflicts-how = Zwei Geräte haben Verschiedenes geschrieben, ohne voneinander zu wissen. Beides bleibt, bis du entscheidest.
conflicts-choose = { $row } auswählen
conflicts-take-mine = Nimm, was hier geschrieben wurde …
conflicts-take-theirs = Nimm, was von anderswo kam …
conflicts-all = alle { $count }
conflicts-ended = Erledigte Konflikte
conflicts-none-chosen = Es wurde kein Konflikt ausgewählt.
conflicts-decided = { $count ->
    [one] Ein Konflikt wurde entschieden.
   *[other] { $count } Konflikte wurden entschieden.
}
conflicts-left = { $count } ging nicht: { $why }
kind-field = Verschieden geschrieben
kind-delete-edit = Auf einem Gerät gelöscht, auf einem anderen geändert
kind-orphan = Wozu es gehört, wurde gelöscht
kind-unique = Zweimal derselbe Name
kind-ring = Ineinander verschoben
kind-schema = Ein Wert, den die Tabelle nicht nimmt
conflict-gone = Dieser Konflikt ist erledigt oder war nie da.
conflict-changed = Der Konflikt hat sich inzwischen geändert; sieh ihn noch einmal an.
conflict-history = Geschichte dieser Zeile
conflict-context = Was die Zeile sonst enthält
conflict-others = Es betrifft auch diese Zeilen:
conflict-shown = wird gerade gezeigt
conflict-before = Was vorher da stand
conflict-own = Etwas Eigenes:
conflict-own-label = Mein eigener Text für { $field }
conflict-decided = { $row } ist entschieden.
way-keep = Die Zeile behalten
way-delete = Die Zeile löschen
way-rename = Eine davon umbenennen
way-mine = Nimm, was hier geschrieben wurde
way-theirs = Nimm, was von anderswo kam
way-fields = Entscheiden
notices-title = Texte, die gewichen sind
notices-how = Was hier gespeichert wurde, hat einen Text von einem anderen Gerät ersetzt, und niemand weiß, ob er gelesen war.
notice-back = Zurückholen
notice-go = Gehen lassen
notice-done = Erledigt.
preview-title = Bevor du entscheidest
preview-mine = { $count ->
    [one] In einem Konflikt gilt dann, was hier geschrieben wurde.
   *[other] In { $count } Konflikten gilt dann, was hier geschrieben wurde.
}
preview-theirs = { $count ->
    [one] In einem Konflikt gilt dann, was von anderswo kam.
   *[other] In { $count } Konflikten gilt dann, was von anderswo kam.
}
preview-row = Zeile
preview-field = Feld
preview-now = Jetzt
preview-then = Danach
preview-more = Und { $count } weitere.
preview-go = { $count ->
    [one] Entscheiden
   *[other] Diese { $count } entscheiden
}
ended-title = Erledigte Konflikte
ended-none = Noch keine.
ended-open = Offene Konflikte
ended-resolved = entschieden
ended-superseded = durch eine spätere Änderung erledigt
ended-take-back = Entscheidung zurücknehmen
ended-taken-back = Die Entscheidung wurde zurückgenommen: Die Zeile zeigt, was sie vorher zeigte.
ended-not-found = Was diesen Konflikt entschied, ist nicht mehr zu finden; nimm es in der Geschichte der Zeile zurück.

## Zeilen
row-holds = Was sie enthält
row-history = Was mit ihr geschah
row-take-back = Diese Änderung zurücknehmen
row-taken-back = Die Änderung wurde zurückgenommen.
deleted-title = Kürzlich gelöscht
deleted-how = Was auf irgendeinem Gerät gelöscht wurde, lässt sich zurückholen, auf allen.
deleted-none = Nichts wurde gelöscht.
deleted-bring-back = Zurückholen

## Geräte
device-not-paired = Nicht mit diesem Gerät gekoppelt.
device-paired = Gekoppelt
device-addresses = Adressen
device-no-address = Keine bekannt
device-traffic = Seit dem Start
device-traffic-words = { $pulled } Zeilen kamen von ihm, { $pushed } gingen an es
device-owner = Besitzer
device-twice = Seine Schlüssel werden an zwei Orten benutzt, gesehen
device-number = Sicherheitsnummer
device-number-how = Das andere Gerät zeigt dieselbe. Lest sie einander vor, um sicher zu sein.
device-sent = Was es hier geändert hat
device-sent-nothing = Noch nichts.
device-ways = Was du tun kannst
device-make-owner = Zum Besitzer machen
device-make-owner-how = Was ein Besitzer als verloren meldet, wird hier ohne Frage ausgeschlossen.
device-is-owner = Das Gerät ist jetzt ein Besitzer.
device-rename = Wie du es nennst
device-rename-save = So nennen
device-called = Es heißt hier jetzt { $name }.
device-rename-how = Leer: wie es sich selbst nennt.
device-pause = Anhalten
device-resume = Weitermachen lassen
device-paused = Das Gerät ist angehalten: Es wird weder gerufen noch beantwortet.
device-resumed = Das Gerät macht weiter.
device-revoke = Ausschließen …
device-kept = Das Gerät bleibt.
undo-title = Zurücknehmen, was es geschrieben hat
undo-how = Für den Notfall. Du siehst vorher, was sich ändern würde.
undo-since = Seit
undo-hour = einer Stunde
undo-day = einem Tag
undo-week = einer Woche
undo-look = Erst ansehen
undo-would = { $count ->
    [0] Nichts würde sich ändern. Geschrieben seit
    [one] Eine Zeile würde sich ändern. Geschrieben seit
   *[other] { $count } Zeilen würden sich ändern. Geschrieben seit
}
undo-left = { $count ->
    [one] Eine Änderung kam, als sich die beiden zum ersten Mal trafen, und will älter sein: Sie bleibt.
   *[other] { $count } Änderungen kamen, als sich die beiden zum ersten Mal trafen, und wollen älter sein: Sie bleiben.
}
undo-row-deleted = Die Zeile würde wieder gelöscht.
undo-row-restored = Die Zeile würde zurückgeholt.
undo-overwritten = Seither wieder geschrieben, bleibt also:
undo-go = { $count ->
    [one] In dieser Zeile zurücknehmen
   *[other] In { $count } Zeilen zurücknehmen
}
undone = { $count ->
    [one] Eine Zeile wurde zurückgenommen.
   *[other] { $count } Zeilen wurden zurückgenommen.
}
revoke-title = { $name } ausschließen?
revoke-what = { $name } verliert seine Schlüssel: Es kann hier nichts mehr lesen oder senden, und deine anderen Geräte erfahren davon.
revoke-keeps = Was es schon hat, bleibt bei ihm. Um wiederzukommen, muss es neu gekoppelt werden.
revoke-go = { $name } ausschließen
revoked = { $name } ist nicht mehr mit diesem Gerät gekoppelt.

## Zustand
health-title = Zustand
health-checks = Prüfungen
health-checking = Wird geprüft …
health-checked = Geprüft
health-check = Jetzt prüfen
health-failed = Die Prüfung ging nicht:
finding-fine = In Ordnung
finding-note = Hinweis
finding-problem = Problem
health-numbers = Zahlen
health-rows = Zeilen
health-changes = Gemerkte Änderungen
health-parked = Zeilen, die auf andere warten
health-quarantined = Abgelehnte Änderungen
health-file = Datenbank
health-data = Schlüssel, Einstellungen, Sicherungen
health-backups = Sicherungen
health-backup = Jetzt sichern
health-backed-up = Die Datenbank wurde gesichert und die Kopie geprüft.
health-no-backups = Noch keine.
health-restore = Wie man eine zurückholt
health-restore-how = Schließ die App, halte storysync an und kopiere die Sicherung über die Datenbank. Was die anderen Geräte seither bekamen, kommt mit dem nächsten Abgleich zurück; was seither nur dieses Gerät hatte, ist verloren.
health-log = Geräte und Entscheidungen

## Einstellungen
settings-title = Einstellungen
settings-save = Speichern
settings-others = Alles andere
settings-how = Was in der Einstellungsdatei steht, gilt ab dem nächsten Start:
settings-key = Einstellung
settings-value = Wert
settings-from = Woher
settings-saved = Gespeichert; es gilt ab jetzt.
settings-saved-later = Gespeichert; es gilt ab dem nächsten Start.
setting-name = Wie dieses Gerät heißt
setting-pairing-approval = Wer einen Code scannt, kommt herein
setting-pairing-seconds = Wie lange ein Code gilt
setting-asked-about = Solange du gefragt wirst, ob ein Gerät verloren ging
setting-batch-size = Zeilen auf einmal
setting-conflict-resolution = Konflikte mit dem, was ein Telefon ohne storysync sendet
choice-code = sobald seine vier Ziffern hier eingegeben sind
choice-none = sofort
choice-keep = gleicht es weiter ab
choice-pause = wartet es
choice-merge = warten auf dich, Passendes wird zusammengeführt
choice-manual = warten auf dich
choice-desktop-wins = der Wert des Rechners gilt
choice-mobile-wins = der Wert des Telefons gilt
choice-timestamp = der spätere Wert gilt
unit-seconds = Sekunden
unit-rows = Zeilen
source-default = Vorgabe
source-remembered = gemerkt
source-file = aus der Einstellungsdatei
source-environment = aus der Umgebung
source-flag = vom Start her
settings-end-title = storysync beenden
settings-end-how = Bis es wieder gestartet wird, werden Änderungen vorgemerkt und warten.
settings-end = Beenden
settings-ended = storysync ist beendet. Starte es wieder aus der Programmliste oder mit

## Das Feld in der App
embed-title = Abgleich
embed-more = Alles andere

## Erster Start
first-title = Willkommen
first-none = Hier ist keine Datenbank:
first-path = Wo die Datenbank ist
first-use = Diese verwenden
first-create-how = Oder beginne mit einer neuen, leeren Welt.
first-create = Neue Datenbank anlegen
first-found = Gefunden: die Datenbank
first-counted = Sie hat { $tables } Tabellen mit { $rows } Zeilen und ist noch nicht für den Abgleich vorbereitet.
first-what = Was jetzt geschieht
first-backup = Zuerst wird eine Kopie gemacht, in
first-adds = Jede Tabelle bekommt vier Spalten für den Abgleich; was du geschrieben hast, bleibt, wie es ist, und die App läuft weiter wie zuvor.
first-verifies = Jede Zeile wird mit der Kopie verglichen.
first-go = Vorbereiten
first-again = Noch einmal versuchen
first-other-ports = Andere Ports verwenden
first-starting = Einen Augenblick …
first-look = Nachsehen, ob es so weit ist
