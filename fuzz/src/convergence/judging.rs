//! What must hold when everyone has everything.

use super::*;

impl<M: Merge> World<'_, M> {
    /// Everyone gets everything, each in an order of its own.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        let everything: Vec<(EntityId, Change)> = self
            .replicas
            .iter()
            .flat_map(|replica| replica.log.iter().chain(&replica.pending).cloned())
            .collect();
        for (number, replica) in self.replicas.iter_mut().enumerate() {
            let mut order = everything.clone();
            match number % 3 {
                0 => {}
                1 => order.reverse(),
                _ => order.sort_by_key(|(_, change)| change.hash()),
            }
            for (id, change) in order {
                replica.receive(id, change);
            }
            // What it builds on may have gone with a restored backup, for everybody.
            let held: HashSet<ChangeHash> =
                replica.log.iter().map(|(_, change)| change.hash()).collect();
            let waits = |change: &Change| change.deps().iter().all(|dep| held.contains(dep));
            if let Some((id, change)) = replica.pending.iter().find(|(_, change)| waits(change)) {
                return Err(format!(
                    "replica {number} still waits with {} of {id}",
                    change.hash().to_hex()
                ));
            }
        }
        Ok(())
    }

    pub(super) fn judge(&mut self) -> Result<(), String> {
        self.settle()?;
        let first = self.shown(0);
        for who in 1..self.replicas.len() {
            let other = self.shown(who);
            for (id, standing) in &first.rows {
                if other.rows.get(id) != Some(standing) {
                    return Err(format!(
                        "replicas 0 and {who} show {id} differently:\n{standing:?}\n{:?}",
                        other.rows.get(id)
                    ));
                }
            }
            if other != first {
                return Err(format!(
                    "replicas 0 and {who} differ in rows or conflicts:\n{:?}\n{:?}",
                    first.conflicts, other.conflicts
                ));
            }
        }
        let all = self.replicas[0].log.clone();
        for (id, change) in all.into_iter().rev() {
            if self.replicas[0].receive(id.clone(), change) {
                return Err(format!("a change of {id} counted twice"));
            }
        }
        if self.shown(0) != first {
            return Err("replaying everything changed what is shown".to_owned());
        }
        self.nothing_typed_is_lost(&first)
    }

    pub(super) fn nothing_typed_is_lost(&self, shown: &Shown) -> Result<(), String> {
        let alive: HashSet<ChangeHash> =
            self.replicas[0].log.iter().map(|(_, change)| change.hash()).collect();
        for typed in self.typed.iter().filter(|typed| alive.contains(&typed.change)) {
            let overwritten = self.wrote.iter().any(|(entity, field, change)| {
                *entity == typed.entity
                    && (field == typed.field || field == key::DELETED_AT)
                    && alive.contains(change)
                    && self.knew.get(change).is_some_and(|knew| knew.contains(&typed.change))
            });
            if overwritten {
                continue;
            }
            let holds = |value: &Value| {
                let (text, word) = (value.as_text(), typed.token.as_text());
                *value == typed.token
                    || text
                        .zip(word)
                        .is_some_and(|(text, word)| text.split(' ').any(|part| part == word))
            };
            let conflicts = shown.conflicts.get(&typed.entity).map_or(&[][..], Vec::as_slice);
            let reported = conflicts.iter().flat_map(|conflict| &conflict.fields).any(|field| {
                field.name == typed.field && field.values.iter().any(|value| holds(&value.value))
            });
            let visible = match shown.rows.get(&typed.entity) {
                Some(Standing::Stands(row)) => row.fields.get(typed.field).is_some_and(holds),
                // Not in the table, but told: its document says what it holds.
                Some(Standing::Behind(_)) => {
                    // Without a conflict it says the same as the row that stands.
                    (conflicts.iter().any(|conflict| conflict.kind == ConflictKind::Unique)
                        || self.says_what_stands(&typed.entity, shown))
                        && row(&self.replicas[0].documents[&typed.entity])
                            .fields
                            .get(typed.field)
                            .is_some_and(holds)
                }
                Some(Standing::WaitsForParent) => row(&self.replicas[0].documents[&typed.entity])
                    .fields
                    .get(typed.field)
                    .is_some_and(holds),
                Some(Standing::Gone) | None => false,
            };
            if !visible && !reported {
                return Err(format!(
                    "{:?}, typed into {} of {}, is lost: {:?}",
                    typed.token,
                    typed.field,
                    typed.entity,
                    shown.rows.get(&typed.entity)
                ));
            }
        }
        Ok(())
    }

    /// Whether the fields of a row that waits are those of the row in its place.
    fn says_what_stands(&self, entity: &EntityId, shown: &Shown) -> bool {
        let Some(Standing::Behind(winner)) = shown.rows.get(entity) else { return false };
        let fields = |entity: &EntityId| {
            self.replicas[0].documents.get(entity).map(|document| row(document).fields)
        };
        let own = FIELDS
            .iter()
            .find(|(name, _)| *name == entity.table.as_str())
            .map_or(&[][..], |(_, fields)| *fields);
        fields(entity).zip(fields(winner)).is_some_and(|(one, other)| {
            own.iter().all(|field| one.get(*field) == other.get(*field))
        })
    }
}
