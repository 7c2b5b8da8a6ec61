-- What one person or group was told, newest first: asked by operators when somebody says "nobody told me".
CREATE INDEX notice_outbox_by_who ON notice_outbox (tenant, who, id);
