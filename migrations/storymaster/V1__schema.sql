-- Storymaster's content tables as its models declare them: what `storysync init` creates.
-- The app owns these tables; storysync only ever adds to them.

CREATE TABLE "user" (
    id INTEGER NOT NULL,
    username VARCHAR(150) NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id)
);
CREATE UNIQUE INDEX ix_user_sync_uuid ON "user" (sync_uuid);

CREATE TABLE storyline (
    id INTEGER NOT NULL,
    name VARCHAR(120),
    description TEXT,
    user_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (user_id) REFERENCES "user" (id)
);
CREATE UNIQUE INDEX ix_storyline_sync_uuid ON storyline (sync_uuid);

CREATE TABLE setting (
    id INTEGER NOT NULL,
    name VARCHAR(120),
    description TEXT,
    user_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (user_id) REFERENCES "user" (id)
);
CREATE UNIQUE INDEX ix_setting_sync_uuid ON setting (sync_uuid);

CREATE TABLE storyline_to_setting (
    id INTEGER NOT NULL,
    storyline_id INTEGER NOT NULL,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (storyline_id) REFERENCES storyline (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_storyline_to_setting_sync_uuid ON storyline_to_setting (sync_uuid);

CREATE TABLE litography_node (
    id INTEGER NOT NULL,
    name VARCHAR(250) NOT NULL,
    description TEXT,
    node_type VARCHAR(11) NOT NULL,
    x_position FLOAT NOT NULL,
    y_position FLOAT NOT NULL,
    storyline_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (storyline_id) REFERENCES storyline (id)
);
CREATE UNIQUE INDEX ix_litography_node_sync_uuid ON litography_node (sync_uuid);

CREATE TABLE litography_plot (
    id INTEGER NOT NULL,
    title VARCHAR(250) NOT NULL,
    description TEXT,
    storyline_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (storyline_id) REFERENCES storyline (id)
);
CREATE UNIQUE INDEX ix_litography_plot_sync_uuid ON litography_plot (sync_uuid);

CREATE TABLE arc_type (
    id INTEGER NOT NULL,
    name VARCHAR(100) NOT NULL,
    description TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    CONSTRAINT uq_arc_type_name_setting UNIQUE (name, setting_id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_arc_type_sync_uuid ON arc_type (sync_uuid);

CREATE TABLE "class" (
    id INTEGER NOT NULL,
    name VARCHAR(255),
    description TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_class_sync_uuid ON "class" (sync_uuid);

CREATE TABLE "background" (
    id INTEGER NOT NULL,
    name VARCHAR(255),
    description TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_background_sync_uuid ON "background" (sync_uuid);

CREATE TABLE race (
    id INTEGER NOT NULL,
    name VARCHAR(255),
    description TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_race_sync_uuid ON race (sync_uuid);

CREATE TABLE alignment (
    id INTEGER NOT NULL,
    name VARCHAR(255),
    description TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_alignment_sync_uuid ON alignment (sync_uuid);

CREATE TABLE stat (
    id INTEGER NOT NULL,
    name VARCHAR(255),
    description TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_stat_sync_uuid ON stat (sync_uuid);

CREATE TABLE skills (
    id INTEGER NOT NULL,
    name VARCHAR(255),
    description TEXT,
    skill_trait VARCHAR(255),
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_skills_sync_uuid ON skills (sync_uuid);

CREATE TABLE faction (
    id INTEGER NOT NULL,
    name VARCHAR(255),
    description TEXT,
    goals TEXT,
    faction_values TEXT,
    faction_income_sources TEXT,
    faction_expenses TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_faction_sync_uuid ON faction (sync_uuid);

CREATE TABLE location_ (
    id INTEGER NOT NULL,
    name VARCHAR(255),
    location_type VARCHAR(255),
    description TEXT,
    sights TEXT,
    smells TEXT,
    sounds TEXT,
    feels TEXT,
    tastes TEXT,
    coordinates VARCHAR(255),
    is_dungeon BOOLEAN,
    is_city BOOLEAN,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_location__sync_uuid ON location_ (sync_uuid);

CREATE TABLE history (
    id INTEGER NOT NULL,
    name VARCHAR(255),
    event_year INTEGER,
    description TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_history_sync_uuid ON history (sync_uuid);

CREATE TABLE object_ (
    id INTEGER NOT NULL,
    name VARCHAR(255),
    description TEXT,
    object_value INTEGER,
    rarity VARCHAR(255),
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_object__sync_uuid ON object_ (sync_uuid);

CREATE TABLE world_data (
    id INTEGER NOT NULL,
    name VARCHAR(255),
    description TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_world_data_sync_uuid ON world_data (sync_uuid);

CREATE TABLE node_connection (
    id INTEGER NOT NULL,
    output_node_id INTEGER NOT NULL,
    input_node_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (output_node_id) REFERENCES litography_node (id),
    FOREIGN KEY (input_node_id) REFERENCES litography_node (id)
);
CREATE UNIQUE INDEX ix_node_connection_sync_uuid ON node_connection (sync_uuid);

CREATE TABLE litography_notes (
    id INTEGER NOT NULL,
    title VARCHAR(250) NOT NULL,
    description TEXT,
    note_type VARCHAR(5) NOT NULL,
    linked_node INTEGER NOT NULL,
    storyline_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (linked_node) REFERENCES litography_node (id),
    FOREIGN KEY (storyline_id) REFERENCES storyline (id)
);
CREATE UNIQUE INDEX ix_litography_notes_sync_uuid ON litography_notes (sync_uuid);

CREATE TABLE litography_plot_section (
    id INTEGER NOT NULL,
    plot_section_type VARCHAR(17) NOT NULL,
    plot_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (plot_id) REFERENCES litography_plot (id)
);
CREATE UNIQUE INDEX ix_litography_plot_section_sync_uuid ON litography_plot_section (sync_uuid);

CREATE TABLE litography_arc (
    id INTEGER NOT NULL,
    title VARCHAR(250) NOT NULL,
    description TEXT,
    arc_type_id INTEGER NOT NULL,
    storyline_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (arc_type_id) REFERENCES arc_type (id),
    FOREIGN KEY (storyline_id) REFERENCES storyline (id)
);
CREATE UNIQUE INDEX ix_litography_arc_sync_uuid ON litography_arc (sync_uuid);

CREATE TABLE sub_race (
    id INTEGER NOT NULL,
    parent_race_id INTEGER,
    name VARCHAR(255),
    description TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (parent_race_id) REFERENCES race (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_sub_race_sync_uuid ON sub_race (sync_uuid);

CREATE TABLE actor (
    id INTEGER NOT NULL,
    first_name TEXT,
    middle_name TEXT,
    last_name TEXT,
    title TEXT,
    actor_age INTEGER,
    background_id INTEGER,
    job TEXT,
    actor_role TEXT,
    alignment_id INTEGER,
    ideal TEXT,
    bond TEXT,
    flaw TEXT,
    appearance TEXT,
    strengths TEXT,
    weaknesses TEXT,
    notes TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (background_id) REFERENCES "background" (id),
    FOREIGN KEY (alignment_id) REFERENCES alignment (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_actor_sync_uuid ON actor (sync_uuid);

CREATE TABLE faction_a_on_b_relations (
    id INTEGER NOT NULL,
    faction_a_id INTEGER,
    faction_b_id INTEGER,
    overall TEXT,
    economically TEXT,
    politically TEXT,
    opinion TEXT,
    description TEXT,
    notes TEXT,
    timeline TEXT,
    relationship_type VARCHAR(100),
    status VARCHAR(50),
    strength INTEGER,
    trust_level INTEGER,
    is_mutual BOOLEAN,
    is_public BOOLEAN,
    how_met TEXT,
    shared_history TEXT,
    current_status TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (faction_a_id) REFERENCES faction (id),
    FOREIGN KEY (faction_b_id) REFERENCES faction (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_faction_a_on_b_relations_sync_uuid ON faction_a_on_b_relations (sync_uuid);

CREATE TABLE location_to_faction (
    id INTEGER NOT NULL,
    location_id INTEGER,
    faction_id INTEGER,
    faction_presence FLOAT,
    faction_power FLOAT,
    notes TEXT,
    control_type VARCHAR(100),
    control_strength INTEGER,
    control_method TEXT,
    resources_benefits TEXT,
    challenges TEXT,
    established_date VARCHAR(50),
    status VARCHAR(50),
    description TEXT,
    strength INTEGER,
    is_public BOOLEAN,
    local_opposition TEXT,
    key_supporters TEXT,
    control_mechanisms TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (location_id) REFERENCES location_ (id),
    FOREIGN KEY (faction_id) REFERENCES faction (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_location_to_faction_sync_uuid ON location_to_faction (sync_uuid);

CREATE TABLE location_dungeon (
    id INTEGER NOT NULL,
    location_id INTEGER,
    dangers TEXT,
    traps TEXT,
    secrets TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (location_id) REFERENCES location_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_location_dungeon_sync_uuid ON location_dungeon (sync_uuid);

CREATE TABLE location_city (
    id INTEGER NOT NULL,
    location_id INTEGER,
    government TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (location_id) REFERENCES location_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_location_city_sync_uuid ON location_city (sync_uuid);

CREATE TABLE location_city_districts (
    id INTEGER NOT NULL,
    location_id INTEGER,
    district_id INTEGER,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (location_id) REFERENCES location_ (id),
    FOREIGN KEY (district_id) REFERENCES location_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_location_city_districts_sync_uuid ON location_city_districts (sync_uuid);

CREATE TABLE location_flora_fauna (
    id INTEGER NOT NULL,
    location_id INTEGER,
    name VARCHAR(255),
    description TEXT,
    living_type TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (location_id) REFERENCES location_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_location_flora_fauna_sync_uuid ON location_flora_fauna (sync_uuid);

CREATE TABLE history_location (
    id INTEGER NOT NULL,
    history_id INTEGER,
    location_id INTEGER,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (history_id) REFERENCES history (id),
    FOREIGN KEY (location_id) REFERENCES location_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_history_location_sync_uuid ON history_location (sync_uuid);

CREATE TABLE location_a_on_b_relations (
    id INTEGER NOT NULL,
    location_a_id INTEGER,
    location_b_id INTEGER,
    description TEXT,
    notes TEXT,
    relationship_type VARCHAR(100),
    status VARCHAR(50),
    strength INTEGER,
    is_mutual BOOLEAN,
    is_public BOOLEAN,
    established_date VARCHAR(100),
    current_status TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (location_a_id) REFERENCES location_ (id),
    FOREIGN KEY (location_b_id) REFERENCES location_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_location_a_on_b_relations_sync_uuid ON location_a_on_b_relations (sync_uuid);

CREATE TABLE location_geographic_relations (
    id INTEGER NOT NULL,
    location_a_id INTEGER,
    location_b_id INTEGER,
    geographic_type VARCHAR(100),
    distance VARCHAR(100),
    travel_time VARCHAR(100),
    travel_difficulty VARCHAR(50),
    travel_method VARCHAR(100),
    description TEXT,
    notes TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (location_a_id) REFERENCES location_ (id),
    FOREIGN KEY (location_b_id) REFERENCES location_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_location_geographic_relations_sync_uuid ON location_geographic_relations (sync_uuid);

CREATE TABLE location_political_relations (
    id INTEGER NOT NULL,
    location_a_id INTEGER,
    location_b_id INTEGER,
    political_type VARCHAR(100),
    treaty_name VARCHAR(255),
    treaty_date VARCHAR(100),
    status VARCHAR(50),
    description TEXT,
    notes TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (location_a_id) REFERENCES location_ (id),
    FOREIGN KEY (location_b_id) REFERENCES location_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_location_political_relations_sync_uuid ON location_political_relations (sync_uuid);

CREATE TABLE location_economic_relations (
    id INTEGER NOT NULL,
    location_a_id INTEGER,
    location_b_id INTEGER,
    economic_type VARCHAR(100),
    trade_goods TEXT,
    trade_volume VARCHAR(100),
    trade_frequency VARCHAR(100),
    trade_value VARCHAR(100),
    description TEXT,
    notes TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (location_a_id) REFERENCES location_ (id),
    FOREIGN KEY (location_b_id) REFERENCES location_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_location_economic_relations_sync_uuid ON location_economic_relations (sync_uuid);

CREATE TABLE location_hierarchy (
    id INTEGER NOT NULL,
    parent_location_id INTEGER,
    child_location_id INTEGER,
    hierarchy_type VARCHAR(100),
    parent_type VARCHAR(50),
    child_type VARCHAR(50),
    administrative_level INTEGER,
    governance_type VARCHAR(100),
    description TEXT,
    notes TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (parent_location_id) REFERENCES location_ (id),
    FOREIGN KEY (child_location_id) REFERENCES location_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_location_hierarchy_sync_uuid ON location_hierarchy (sync_uuid);

CREATE TABLE history_faction (
    id INTEGER NOT NULL,
    history_id INTEGER,
    faction_id INTEGER,
    role_in_event VARCHAR(255),
    involvement_level VARCHAR(100),
    impact_on_faction TEXT,
    faction_perspective TEXT,
    consequences TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (history_id) REFERENCES history (id),
    FOREIGN KEY (faction_id) REFERENCES faction (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_history_faction_sync_uuid ON history_faction (sync_uuid);

CREATE TABLE history_object (
    id INTEGER NOT NULL,
    history_id INTEGER,
    object_id INTEGER,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (history_id) REFERENCES history (id),
    FOREIGN KEY (object_id) REFERENCES object_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_history_object_sync_uuid ON history_object (sync_uuid);

CREATE TABLE history_world_data (
    id INTEGER NOT NULL,
    history_id INTEGER,
    world_data_id INTEGER,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (history_id) REFERENCES history (id),
    FOREIGN KEY (world_data_id) REFERENCES world_data (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_history_world_data_sync_uuid ON history_world_data (sync_uuid);

CREATE TABLE litography_node_to_plot_section (
    id INTEGER NOT NULL,
    node_id INTEGER,
    litography_plot_section_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (node_id) REFERENCES litography_node (id),
    FOREIGN KEY (litography_plot_section_id) REFERENCES litography_plot_section (id)
);
CREATE UNIQUE INDEX ix_litography_node_to_plot_section_sync_uuid ON litography_node_to_plot_section (sync_uuid);

CREATE TABLE arc_point (
    id INTEGER NOT NULL,
    arc_id INTEGER NOT NULL,
    node_id INTEGER,
    order_index INTEGER NOT NULL,
    title VARCHAR(250) NOT NULL,
    description TEXT,
    emotional_state VARCHAR(500),
    character_relationships TEXT,
    goals TEXT,
    internal_conflict TEXT,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (arc_id) REFERENCES litography_arc (id),
    FOREIGN KEY (node_id) REFERENCES litography_node (id)
);
CREATE UNIQUE INDEX ix_arc_point_sync_uuid ON arc_point (sync_uuid);

CREATE TABLE actor_a_on_b_relations (
    id INTEGER NOT NULL,
    actor_a_id INTEGER,
    actor_b_id INTEGER,
    overall VARCHAR,
    economically VARCHAR,
    power_dynamic VARCHAR,
    description TEXT,
    notes TEXT,
    timeline TEXT,
    relationship_type VARCHAR(100),
    status VARCHAR(50),
    strength INTEGER,
    trust_level INTEGER,
    is_mutual BOOLEAN,
    is_public BOOLEAN,
    how_met TEXT,
    shared_history TEXT,
    current_status VARCHAR(255),
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (actor_a_id) REFERENCES actor (id),
    FOREIGN KEY (actor_b_id) REFERENCES actor (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_actor_a_on_b_relations_sync_uuid ON actor_a_on_b_relations (sync_uuid);

CREATE TABLE actor_to_skills (
    id INTEGER NOT NULL,
    actor_id INTEGER,
    skill_id INTEGER,
    skill_level INTEGER,
    proficiency_level INTEGER,
    how_learned TEXT,
    experience_years INTEGER,
    specialty VARCHAR(255),
    notes TEXT,
    description TEXT,
    status VARCHAR(50),
    strength INTEGER,
    is_public BOOLEAN,
    practice_frequency VARCHAR(100),
    skill_applications TEXT,
    learning_goals TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (actor_id) REFERENCES actor (id),
    FOREIGN KEY (skill_id) REFERENCES skills (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_actor_to_skills_sync_uuid ON actor_to_skills (sync_uuid);

CREATE TABLE actor_to_race (
    id INTEGER NOT NULL,
    actor_id INTEGER,
    race_id INTEGER,
    sub_race_id INTEGER,
    heritage_strength INTEGER,
    cultural_upbringing TEXT,
    community_standing VARCHAR(100),
    heritage_secrets TEXT,
    notes TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (actor_id) REFERENCES actor (id),
    FOREIGN KEY (race_id) REFERENCES race (id),
    FOREIGN KEY (sub_race_id) REFERENCES sub_race (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_actor_to_race_sync_uuid ON actor_to_race (sync_uuid);

CREATE TABLE actor_to_class (
    id INTEGER NOT NULL,
    actor_id INTEGER,
    class_id INTEGER,
    level INTEGER,
    current_level INTEGER,
    experience_points INTEGER,
    specialization VARCHAR(255),
    training_location VARCHAR(255),
    mentor VARCHAR(255),
    status VARCHAR(50),
    notes TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (actor_id) REFERENCES actor (id),
    FOREIGN KEY (class_id) REFERENCES "class" (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_actor_to_class_sync_uuid ON actor_to_class (sync_uuid);

CREATE TABLE actor_to_stat (
    id INTEGER NOT NULL,
    actor_id INTEGER,
    stat_id INTEGER,
    stat_value INTEGER,
    base_value INTEGER,
    modifier INTEGER,
    temporary_modifier INTEGER,
    notes TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (actor_id) REFERENCES actor (id),
    FOREIGN KEY (stat_id) REFERENCES stat (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_actor_to_stat_sync_uuid ON actor_to_stat (sync_uuid);

CREATE TABLE faction_members (
    id INTEGER NOT NULL,
    actor_id INTEGER,
    faction_id INTEGER,
    actor_role VARCHAR(255),
    relative_power INTEGER,
    role VARCHAR(255),
    rank INTEGER,
    membership_status VARCHAR(100),
    responsibilities TEXT,
    loyalty INTEGER,
    join_date VARCHAR(50),
    description TEXT,
    notes TEXT,
    status VARCHAR(50),
    strength INTEGER,
    is_public BOOLEAN,
    how_joined TEXT,
    reputation_within INTEGER,
    personal_goals TEXT,
    conflicts TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (actor_id) REFERENCES actor (id),
    FOREIGN KEY (faction_id) REFERENCES faction (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_faction_members_sync_uuid ON faction_members (sync_uuid);

CREATE TABLE residents (
    id INTEGER NOT NULL,
    actor_id INTEGER,
    location_id INTEGER,
    residency_type VARCHAR(100),
    residency_status VARCHAR(50),
    move_in_date VARCHAR(50),
    housing_type VARCHAR(100),
    notes TEXT,
    is_public_knowledge BOOLEAN,
    description TEXT,
    status VARCHAR(50),
    strength INTEGER,
    reason_for_living TEXT,
    living_conditions TEXT,
    relationships_neighbors TEXT,
    future_plans TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (actor_id) REFERENCES actor (id),
    FOREIGN KEY (location_id) REFERENCES location_ (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_residents_sync_uuid ON residents (sync_uuid);

CREATE TABLE history_actor (
    id INTEGER NOT NULL,
    history_id INTEGER,
    actor_id INTEGER,
    role_in_event VARCHAR(255),
    involvement_level VARCHAR(100),
    impact_on_character TEXT,
    character_perspective TEXT,
    consequences TEXT,
    notes TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (history_id) REFERENCES history (id),
    FOREIGN KEY (actor_id) REFERENCES actor (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_history_actor_sync_uuid ON history_actor (sync_uuid);

CREATE TABLE object_to_owner (
    id INTEGER NOT NULL,
    object_id INTEGER,
    actor_id INTEGER,
    ownership_type VARCHAR(100),
    acquisition_method TEXT,
    acquisition_date VARCHAR(50),
    ownership_status VARCHAR(50),
    notes TEXT,
    is_public_knowledge BOOLEAN,
    description TEXT,
    status VARCHAR(50),
    strength INTEGER,
    item_condition VARCHAR(100),
    usage_frequency VARCHAR(100),
    storage_location TEXT,
    acquisition_story TEXT,
    setting_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (object_id) REFERENCES object_ (id),
    FOREIGN KEY (actor_id) REFERENCES actor (id),
    FOREIGN KEY (setting_id) REFERENCES setting (id)
);
CREATE UNIQUE INDEX ix_object_to_owner_sync_uuid ON object_to_owner (sync_uuid);

CREATE TABLE litography_note_to_actor (
    id INTEGER NOT NULL,
    note_id INTEGER,
    actor_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (note_id) REFERENCES litography_notes (id),
    FOREIGN KEY (actor_id) REFERENCES actor (id)
);
CREATE UNIQUE INDEX ix_litography_note_to_actor_sync_uuid ON litography_note_to_actor (sync_uuid);

CREATE TABLE litography_note_to_background (
    id INTEGER NOT NULL,
    note_id INTEGER,
    background_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (note_id) REFERENCES litography_notes (id),
    FOREIGN KEY (background_id) REFERENCES "background" (id)
);
CREATE UNIQUE INDEX ix_litography_note_to_background_sync_uuid ON litography_note_to_background (sync_uuid);

CREATE TABLE litography_note_to_faction (
    id INTEGER NOT NULL,
    note_id INTEGER,
    faction_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (note_id) REFERENCES litography_notes (id),
    FOREIGN KEY (faction_id) REFERENCES faction (id)
);
CREATE UNIQUE INDEX ix_litography_note_to_faction_sync_uuid ON litography_note_to_faction (sync_uuid);

CREATE TABLE litography_note_to_location (
    id INTEGER NOT NULL,
    note_id INTEGER,
    location_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (note_id) REFERENCES litography_notes (id),
    FOREIGN KEY (location_id) REFERENCES location_ (id)
);
CREATE UNIQUE INDEX ix_litography_note_to_location_sync_uuid ON litography_note_to_location (sync_uuid);

CREATE TABLE litography_note_to_history (
    id INTEGER NOT NULL,
    note_id INTEGER,
    history_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (note_id) REFERENCES litography_notes (id),
    FOREIGN KEY (history_id) REFERENCES history (id)
);
CREATE UNIQUE INDEX ix_litography_note_to_history_sync_uuid ON litography_note_to_history (sync_uuid);

CREATE TABLE litography_note_to_object (
    id INTEGER NOT NULL,
    note_id INTEGER,
    object_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (note_id) REFERENCES litography_notes (id),
    FOREIGN KEY (object_id) REFERENCES object_ (id)
);
CREATE UNIQUE INDEX ix_litography_note_to_object_sync_uuid ON litography_note_to_object (sync_uuid);

CREATE TABLE litography_note_to_world_data (
    id INTEGER NOT NULL,
    note_id INTEGER,
    world_data_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (note_id) REFERENCES litography_notes (id),
    FOREIGN KEY (world_data_id) REFERENCES world_data (id)
);
CREATE UNIQUE INDEX ix_litography_note_to_world_data_sync_uuid ON litography_note_to_world_data (sync_uuid);

CREATE TABLE litography_note_to_class (
    id INTEGER NOT NULL,
    note_id INTEGER,
    class_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (note_id) REFERENCES litography_notes (id),
    FOREIGN KEY (class_id) REFERENCES "class" (id)
);
CREATE UNIQUE INDEX ix_litography_note_to_class_sync_uuid ON litography_note_to_class (sync_uuid);

CREATE TABLE litography_note_to_race (
    id INTEGER NOT NULL,
    note_id INTEGER,
    race_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (note_id) REFERENCES litography_notes (id),
    FOREIGN KEY (race_id) REFERENCES race (id)
);
CREATE UNIQUE INDEX ix_litography_note_to_race_sync_uuid ON litography_note_to_race (sync_uuid);

CREATE TABLE litography_note_to_sub_race (
    id INTEGER NOT NULL,
    note_id INTEGER,
    sub_race_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (note_id) REFERENCES litography_notes (id),
    FOREIGN KEY (sub_race_id) REFERENCES sub_race (id)
);
CREATE UNIQUE INDEX ix_litography_note_to_sub_race_sync_uuid ON litography_note_to_sub_race (sync_uuid);

CREATE TABLE litography_note_to_skills (
    id INTEGER NOT NULL,
    note_id INTEGER,
    skill_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (note_id) REFERENCES litography_notes (id),
    FOREIGN KEY (skill_id) REFERENCES skills (id)
);
CREATE UNIQUE INDEX ix_litography_note_to_skills_sync_uuid ON litography_note_to_skills (sync_uuid);

CREATE TABLE arc_to_node (
    id INTEGER NOT NULL,
    node_id INTEGER,
    arc_id INTEGER,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (node_id) REFERENCES litography_node (id),
    FOREIGN KEY (arc_id) REFERENCES litography_arc (id)
);
CREATE UNIQUE INDEX ix_arc_to_node_sync_uuid ON arc_to_node (sync_uuid);

CREATE TABLE arc_to_actor (
    id INTEGER NOT NULL,
    actor_id INTEGER NOT NULL,
    arc_id INTEGER NOT NULL,
    sync_uuid VARCHAR(36) NOT NULL,
    created_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    updated_at DATETIME DEFAULT CURRENT_TIMESTAMP NOT NULL,
    deleted_at DATETIME,
    version INTEGER NOT NULL,
    PRIMARY KEY (id),
    FOREIGN KEY (actor_id) REFERENCES actor (id),
    FOREIGN KEY (arc_id) REFERENCES litography_arc (id)
);
CREATE UNIQUE INDEX ix_arc_to_actor_sync_uuid ON arc_to_actor (sync_uuid);
