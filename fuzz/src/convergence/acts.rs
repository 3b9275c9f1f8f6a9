//! What the replicas of the model do to their rows.

use super::*;

impl<M: Merge> World<'_, M> {
    /// Something typed into a field, and the word that must never be lost.
    pub(super) fn typing(&mut self, field: &str, standing: Option<&Value>) -> (Value, Value) {
        let word = format!("t{}", self.typed.len());
        match field {
            "age" => {
                let age = Value::Integer(i64::try_from(self.choices.roll(4)).unwrap_or(0));
                (age.clone(), age)
            }
            // Few names, so that they meet.
            "name" => {
                let name = Value::from(["Ada", "Bea", "Cid", "Dot", "Eve"][self.choices.roll(5)]);
                (name.clone(), name)
            }
            _ => {
                let text = standing.and_then(Value::as_text).unwrap_or(
                    "one two three four five six seven eight nine ten eleven twelve thirteen",
                );
                let words: Vec<&str> = text.split(' ').collect();
                let place = self.choices.roll(words.len() + 1);
                let (before, after) = words.split_at(place.min(words.len()));
                let dropped = self.choices.roll(3).min(after.len());
                let written: Vec<&str> = before
                    .iter()
                    .copied()
                    .chain([word.as_str()])
                    .chain(after[dropped..].iter().copied())
                    .collect();
                (Value::from(written.join(" ")), Value::from(word.as_str()))
            }
        }
    }

    /// Writes a change as this replica would, and remembers what its author knew.
    pub(super) fn write(
        &mut self,
        who: usize,
        entity: &EntityId,
        mut puts: Puts,
        base: Option<&Heads>,
        tokens: &[(&'static str, Value)],
        purpose: EditPurpose,
    ) {
        let at = self.now();
        let replica = &mut self.replicas[who];
        let document = replica.documents.entry(entity.clone()).or_default();
        puts.insert(key::VERSION.to_owned(), Value::Integer(row(document).version + 1));
        puts.insert(key::UPDATED_AT.to_owned(), Value::from(at.to_table_text()));
        let mut knew = HashSet::new();
        match base {
            Some(heads) => heads.iter().for_each(|head| {
                knew.insert(*head);
                knew.extend(self.knew.get(head).into_iter().flatten().copied());
            }),
            None => knew.extend(document.changes().iter().map(Change::hash)),
        }
        let fields: Vec<String> = puts.keys().cloned().collect();
        let deletes = puts.get(key::DELETED_AT).is_some_and(|value| !value.is_null());
        let actor = replica.actor.clone();
        let change =
            document.edit(puts, purpose, base, &actor, at.unix_ms()).expect("something to write");
        let hash = change.hash();
        assert_eq!(document.apply(change.clone()), Ok(true), "an edit fits its own document");
        replica.log.push((entity.clone(), change));
        self.knew.insert(hash, knew);
        for field in fields.into_iter().filter(|field| !key::is_bookkeeping(field)) {
            self.wrote.push((entity.clone(), field, hash));
        }
        if deletes {
            self.wrote.push((entity.clone(), key::DELETED_AT.to_owned(), hash));
        }
        for (field, token) in tokens {
            self.typed.push(Typed {
                entity: entity.clone(),
                field,
                token: token.clone(),
                change: hash,
            });
        }
    }

    pub(super) fn first_values(
        &mut self,
        who: usize,
        entity: &EntityId,
    ) -> (Puts, Vec<(&'static str, Value)>) {
        let mut puts = Puts::from([(key::PROSE.to_owned(), Value::from("note"))]);
        let mut tokens = Vec::new();
        let (_, fields) =
            FIELDS.iter().find(|(name, _)| *name == entity.table.as_str()).expect("a table");
        for field in *fields {
            let (value, token) = self.typing(field, None);
            puts.insert((*field).to_owned(), value);
            tokens.push((*field, token));
        }
        for reference in self.shape.get(&entity.table).expect("a table").references.clone() {
            let value = self.a_reference(who, reference.table.as_str());
            puts.insert(reference.column, value);
        }
        puts.insert(key::DELETED_AT.to_owned(), Value::Null);
        puts.insert(key::CREATED_AT.to_owned(), Value::from(self.now().to_table_text()));
        (puts, tokens)
    }

    pub(super) fn create(&mut self, who: usize) {
        let name = ["place", "place", "person", "person", "visit"][self.choices.roll(5)];
        let entity = self.new_entity(name);
        let (mut puts, tokens) = self.first_values(who, &entity);
        puts.insert(key::ROW.to_owned(), Value::from(entity.uuid.as_str()));
        self.story.push(format!("{who} creates {entity}: {puts:?}"));
        self.write(who, &entity, puts, None, &tokens, EditPurpose::Edit);
    }

    /// Two replicas find the same row when storysync comes to them, perhaps with other values.
    pub(super) fn both_had_it(&mut self, who: usize) {
        let entity = self.new_entity("place");
        for (replica, differs) in
            [(who, false), ((who + 1) % self.replicas.len(), self.choices.one_in(2))]
        {
            let note = if differs { "changed before" } else { "as it was" };
            let name = format!("old {entity}");
            let puts = Puts::from([
                ("name".to_owned(), Value::from(name.as_str())),
                ("note".to_owned(), Value::from(note)),
                (key::PROSE.to_owned(), Value::from("note")),
                (key::DELETED_AT.to_owned(), Value::Null),
                (
                    key::UPDATED_AT.to_owned(),
                    Value::from(if differs {
                        "2020-01-02 00:00:00"
                    } else {
                        "2020-01-01 00:00:00"
                    }),
                ),
            ]);
            let change = genesis(&entity, puts);
            let hash = change.hash();
            let holder = &mut self.replicas[replica];
            holder
                .documents
                .entry(entity.clone())
                .or_default()
                .apply(change.clone())
                .expect("a genesis fits");
            holder.log.push((entity.clone(), change));
            self.knew.entry(hash).or_default();
            for (field, token) in
                [("name", Value::from(name.as_str())), ("note", Value::from(note))]
            {
                self.typed.push(Typed { entity: entity.clone(), field, token, change: hash });
                self.wrote.push((entity.clone(), field.to_owned(), hash));
            }
        }
        self.story.push(format!("{who} and the next had {entity}"));
    }

    pub(super) fn edit(&mut self, who: usize, stale: bool) {
        let Some((entity, mut seen)) = self.a_row(who) else { return };
        let document = &self.replicas[who].documents[&entity];
        let mut base = None;
        if stale {
            let back = i64::try_from(1 + self.choices.roll(STALE_VERSIONS_MAX)).unwrap_or(1);
            let heads = document.heads_at_version(seen.version - back);
            seen = row(&document.at(&heads).expect("heads of its own"));
            base = Some(heads);
        }
        let (_, fields) =
            FIELDS.iter().find(|(name, _)| *name == entity.table.as_str()).expect("a table");
        let mut puts = Puts::new();
        let mut tokens = Vec::new();
        for _ in 0..=self.choices.roll(2) {
            if self.choices.one_in(4) {
                let references = self.shape[&entity.table].references.clone();
                if let Some(reference) = self.choices.pick(&references).cloned() {
                    let value = self.a_reference(who, reference.table.as_str());
                    puts.insert(reference.column, value);
                }
            } else if let Some(field) = self.choices.pick(fields).copied() {
                let (value, token) = self.typing(field, seen.fields.get(field));
                puts.insert(field.to_owned(), value);
                tokens.retain(|(known, _)| *known != field);
                tokens.push((field, token));
            }
        }
        // What equals the value seen was not typed: a capture skips it.
        puts.retain(|name, value| seen.fields.get(name).unwrap_or(&Value::Null) != value);
        tokens.retain(|(name, _)| puts.contains_key(*name));
        if puts.is_empty() {
            return;
        }
        self.want(who, &entity, base.as_ref(), &mut puts);
        self.story.push(format!(
            "{who} edits {entity}{}: {puts:?}",
            if stale { " from an old form" } else { "" }
        ));
        self.write(who, &entity, puts, base.as_ref(), &tokens, EditPurpose::Edit);
    }

    /// A row that is shown though it was removed, because others require it: whoever writes into it
    /// wants it.
    pub(super) fn want(
        &self,
        who: usize,
        entity: &EntityId,
        base: Option<&Heads>,
        puts: &mut Puts,
    ) {
        let document = &self.replicas[who].documents[entity];
        let seen = base
            .and_then(|heads| document.at(heads))
            .map_or_else(|| row(document), |earlier| row(&earlier));
        if !seen.stands() {
            puts.insert(key::DELETED_AT.to_owned(), Value::Null);
        }
    }

    pub(super) fn delete(&mut self, who: usize) {
        let Some((entity, _)) = self.a_row(who) else { return };
        self.delete_row(who, &entity);
    }

    pub(super) fn delete_row(&mut self, who: usize, entity: &EntityId) {
        let left: Vec<String> = self
            .standing(who)
            .iter()
            .filter(|(id, row)| {
                let mut references = self.shape[&id.table].references.iter();
                references.any(|reference| {
                    storysync_crdt::target(row, reference).as_ref() == Some(entity)
                })
            })
            .map(|(id, _)| id.to_string())
            .collect();
        let kind = if self.choices.one_in(5) { "soft" } else { "hard" };
        let mut puts = Puts::from([
            (key::DELETED_AT.to_owned(), Value::from(self.now().to_table_text())),
            (key::DELETE_KIND.to_owned(), Value::from(kind)),
        ]);
        if !left.is_empty() {
            puts.insert(key::LEFT_BEHIND.to_owned(), Value::from(left.join(",")));
        }
        self.story.push(format!("{who} deletes {entity} ({kind}), leaving {left:?}"));
        self.write(who, entity, puts, None, &[], EditPurpose::Edit);
    }

    pub(super) fn undelete(&mut self, who: usize) {
        let deleted: Vec<EntityId> = self.replicas[who]
            .documents
            .iter()
            .filter(|(_, document)| row(document).deletion.is_some())
            .map(|(id, _)| id.clone())
            .collect();
        let Some(entity) = self.choices.pick(&deleted).cloned() else { return };
        self.story.push(format!("{who} brings {entity} back"));
        self.write(
            who,
            &entity,
            Puts::from([(key::DELETED_AT.to_owned(), Value::Null)]),
            None,
            &[],
            EditPurpose::Edit,
        );
    }

    /// `INSERT OR REPLACE`, or a reused id: one row goes, another of the same name comes.
    pub(super) fn replace(&mut self, who: usize) {
        let Some((entity, old)) = self.a_row(who) else { return };
        self.delete_row(who, &entity);
        let newcomer = self.new_entity(entity.table.as_str());
        let (mut puts, mut tokens) = self.first_values(who, &newcomer);
        if let (true, Some(name)) = (puts.contains_key("name"), old.fields.get("name")) {
            puts.insert("name".to_owned(), name.clone());
            tokens.retain(|(field, _)| *field != "name");
            tokens.push(("name", name.clone()));
        }
        puts.insert(key::ROW.to_owned(), Value::from(newcomer.uuid.as_str()));
        self.story.push(format!("{who} replaces it by {newcomer}"));
        self.write(who, &newcomer, puts, None, &tokens, EditPurpose::Edit);
    }

    pub(super) fn resolve(&mut self, who: usize) {
        let conflicts: Vec<(EntityId, Conflict)> = self
            .shown(who)
            .conflicts
            .into_iter()
            .flat_map(|(id, conflicts)| {
                conflicts.into_iter().map(move |conflict| (id.clone(), conflict))
            })
            .collect();
        let Some((entity, conflict)) = self.choices.pick(&conflicts).cloned() else { return };
        let mut puts = Puts::new();
        let mut tokens = Vec::new();
        match conflict.kind {
            ConflictKind::Field => {
                for field in &conflict.fields {
                    let value = self
                        .choices
                        .pick(&field.values)
                        .map(|value| value.value.clone())
                        .expect("a conflict has values");
                    puts.insert(field.name.clone(), value);
                }
            }
            ConflictKind::Ring => puts.extend(
                conflict.fields.iter().map(|field| (field.name.clone(), field.shown.clone())),
            ),
            ConflictKind::DeleteEdit | ConflictKind::Orphan => {
                if self.choices.one_in(2) {
                    return self.delete_row(who, &entity);
                }
                puts.insert(key::DELETED_AT.to_owned(), Value::Null);
            }
            ConflictKind::Unique => {
                if conflict.fields.iter().all(|field| field.name != "name") {
                    return self.delete_row(who, &entity);
                }
                let name = Value::from(format!("renamed {}", self.step));
                puts.insert("name".to_owned(), name.clone());
                tokens.push(("name", name));
            }
            ConflictKind::Schema => return,
        }
        self.want(who, &entity, None, &mut puts);
        self.story.push(format!("{who} resolves {:?} of {entity}: {puts:?}", conflict.kind));
        self.write(who, &entity, puts, None, &tokens, EditPurpose::Edit);
    }
}
