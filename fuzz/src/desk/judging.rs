//! What desks capture and exchange, and what must hold then.

use super::*;

impl<C: Capture> World<'_, C> {
    pub(super) fn capture(&mut self, who: usize) -> Result<(), String> {
        let step = self.step;
        let desk = &mut self.desks[who];
        if desk.updates == 0 {
            return Ok(());
        }
        let (before, stood) = (shown(&desk.document), desk.table.clone());
        let written: Vec<Written> = COLUMNS
            .iter()
            .filter(|column| before[*column] != stood[*column])
            .map(|column| Written {
                name: (*column).to_owned(),
                value: stood[column].clone(),
                document: before[column].clone(),
                is_field: true,
                hid_arrivals: false,
            })
            .collect();
        let device = desk.device;
        let own = move |change: &Change| change.actor().device() == Some([device; 32]);
        let Edits { puts, base, mut beside, put_back, unread, replaced } =
            C::edits(&desk.document, desk.base_version, &desk.admitted, written, &own);
        let saves = desk.updates;
        let at = i64::try_from(step).unwrap_or(0);
        let purpose = if puts.is_empty() && beside.is_empty() {
            EditPurpose::Rewrite
        } else {
            EditPurpose::Edit
        };
        if !puts.is_empty() || beside.is_empty() {
            desk.put(puts, purpose, base.as_ref(), saves, at)?;
        }
        if !beside.is_empty() {
            if !put_back.is_empty() {
                let names: Vec<&str> = put_back.iter().map(String::as_str).collect();
                beside.insert(key::TYPED.to_owned(), Value::from(names.join(",")));
            }
            let base = Base { heads: desk.document.heads().clone(), unseen: unread };
            desk.put(beside, purpose, Some(&base), saves, at)?;
        }
        // Of several saves at once, only the last state of the row is there to look at.
        let mixed = desk.base_version.is_some() && desk.updates > 1;
        desk.notices.extend(replaced);
        let (shown_before, saved) = (desk.version, std::mem::take(&mut desk.saved));
        desk.project(step, false);
        if desk.version < shown_before {
            return Err(format!("{who} shows version {} after {shown_before}", desk.version));
        }
        for (column, had_unread) in saved {
            // A number may be what it was before by chance, in the same save as a text that a panel
            // put back.
            if !had_unread
                && !mixed
                && column != "age"
                && !says_the_same(&desk.table[column], &stood[column])
            {
                return Err(format!(
                    "{who} wrote {:?} into {column}, which nobody else had touched since, and sees \
                        {:?}",
                    stood[column], desk.table[column]
                ));
            }
        }
        self.no_conflict_with_oneself(who)
    }

    pub(super) fn no_conflict_with_oneself(&self, who: usize) -> Result<(), String> {
        for field in
            conflicts(&self.desks[who].document).iter().flat_map(|conflict| &conflict.fields)
        {
            if self.writers.get(field.name.as_str()).is_none_or(|writers| writers.len() < 2) {
                return Err(format!(
                    "{who} has a conflict in {}, which one desk wrote alone",
                    field.name
                ));
            }
        }
        Ok(())
    }

    /// Everything `from` has reaches `to`.
    pub(super) fn sync(&mut self, from: usize, to: usize) -> Result<(), String> {
        if from == to {
            return Ok(());
        }
        self.capture(from)?;
        self.capture(to)?;
        let step = self.step;
        let at = i64::try_from(step).unwrap_or(0) * 10 + 5;
        let changes: Vec<Change> = self.desks[from].document.changes().to_vec();
        let desk = &mut self.desks[to];
        let mut new = 0;
        for change in changes {
            if desk
                .document
                .apply(change.clone())
                .map_err(|error| format!("a change of {from} does not fit at {to}: {error}"))?
            {
                desk.admitted.push(at);
                new += 1;
                // It may stand beside what is shown, and be shown only later.
                for column in COLUMNS.iter().filter(|column| {
                    change
                        .value(column)
                        .is_some_and(|value| !says_the_same(value, &desk.table[*column]))
                }) {
                    desk.arrived.insert(*column, step);
                }
            }
        }
        if new > 0 {
            self.story.push(format!("{new} changes of {from} reach {to}"));
            desk.project(step, true);
        }
        self.no_conflict_with_oneself(to)
    }

    pub(super) fn judge(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            self.step += 1;
            for from in 0..self.desks.len() {
                for to in 0..self.desks.len() {
                    self.sync(from, to)?;
                }
            }
        }
        for who in 0..self.desks.len() {
            self.capture(who)?;
        }
        let (first, first_conflicts) =
            (shown(&self.desks[0].document), conflicts(&self.desks[0].document));
        for (who, desk) in self.desks.iter().enumerate() {
            if shown(&desk.document) != first || conflicts(&desk.document) != first_conflicts {
                return Err(format!("0 and {who} show different rows or conflicts"));
            }
        }
        for (column, word) in &self.typed {
            let holds = |value: &Value| words_of(value).contains(word);
            let told = first_conflicts.iter().flat_map(|conflict| &conflict.fields).any(|field| {
                field.name == *column && field.values.iter().any(|value| holds(&value.value))
            });
            let noticed = self.desks.iter().any(|desk| {
                let gave_way = desk
                    .notices
                    .iter()
                    .filter(|(name, _)| name == column)
                    .filter_map(|(_, hash)| desk.document.change(hash)?.value(column));
                gave_way.into_iter().any(&holds)
            });
            if !holds(&first[column])
                && !told
                && !noticed
                && !self.taken_out.contains(&(*column, word.clone()))
            {
                return Err(format!(
                    "{word}, typed into {column}, is gone untold; the row says {:?}",
                    first[column]
                ));
            }
        }
        Ok(())
    }
}
