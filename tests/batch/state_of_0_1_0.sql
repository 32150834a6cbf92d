BEGIN TRANSACTION;
CREATE TABLE crgen_batch (
    version INTEGER NOT NULL,
    PRIMARY KEY (version)
);
INSERT INTO "crgen_batch" VALUES(1);
CREATE TABLE crgen_job (
    name VARCHAR NOT NULL,
    definition VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    attempts INTEGER NOT NULL,
    lost INTEGER NOT NULL,
    failed_at FLOAT,
    retry_at FLOAT,
    settled BOOLEAN NOT NULL,
    identity VARCHAR,
    product VARCHAR,
    owner VARCHAR,
    beat INTEGER NOT NULL,
    project VARCHAR,
    device VARCHAR,
    log VARCHAR,
    changed_at FLOAT,
    PRIMARY KEY (name)
);
INSERT INTO "crgen_job" VALUES('made','fbb3dfb24cff5213739463019b0b3d6f928e05aa9dc92c7c0ef350b13efa1e3f','done','',0,0,NULL,NULL,1,NULL,'{home}/products/made/made_2021-07-10_2021-07-22_0fcc0bea.tif',NULL,1,NULL,NULL,'{home}/logs/made/20261127T080541Z-a305ba.log',1.795766750986e+09);
INSERT INTO "crgen_job" VALUES('bad','b4bad8a045a603c2385a945c5facf2b10291728459ebcd79d861d3c3f2330e6b','failed','there is no file ''nowhere.geojson''; give one, or ''west,south,east,north'' in degrees',0,0,NULL,NULL,1,NULL,NULL,NULL,1,NULL,NULL,'{home}/logs/bad/20261127T080551Z-ef504a.log',1.795766751938e+09);
INSERT INTO "crgen_job" VALUES('unlucky','2fcf90c438b269fdf44f1bc490c5978d11c37c4c5c1616b162d5de3c2bbe54c3','retry','its process was killed by SIGKILL, perhaps for lack of memory',1,0,1.795766760643e+09,1.795784779126e+09,0,'0fcc0bea582c961a4f69de2fcdff19c2f8912e0ddf5f073793267267f15f463e','{home}/products/unlucky/unlucky_2021-07-10_2021-07-22_0fcc0bea.tif',NULL,2,NULL,NULL,'{home}/logs/unlucky/20261127T080552Z-1a8f36.log',1.795766760643e+09);
INSERT INTO "crgen_job" VALUES('waits','e44a5ebe9305069f368a56cd6f5ae6a2371a0cec5753f1f52779cfb22f6def37','waiting','t2 (2999-01-01) lies in the future',0,0,NULL,NULL,0,NULL,NULL,NULL,3,NULL,NULL,'{home}/logs/waits/20261127T080649Z-2627f7.log',1.795766810082e+09);
INSERT INTO "crgen_job" VALUES('stopped','542687e6cebd58e4a14464c944dccd48c4afd310a6e489927eb524907f078895','stopped','',0,0,NULL,NULL,0,'9755bad4ec64883805524615476d8028679d18bd3f2382ed49248ca15dd7b304','{home}/products/stopped/stopped_2021-07-10_2021-07-22_9755bad4.tif',NULL,3,NULL,NULL,'{home}/logs/stopped/20261127T080604Z-4a5018.log',1.795766806584e+09);
INSERT INTO "crgen_job" VALUES('died','5b081d0b17ea35b3095ea5e009d0d49007636cbe709c059b2d56e785896d1c7b','running','',0,0,NULL,NULL,0,'9755bad4ec64883805524615476d8028679d18bd3f2382ed49248ca15dd7b304','{home}/products/died/died_2021-07-10_2021-07-22_9755bad4.tif','host:31397:280dcdd0',3,NULL,'host auto',NULL,1.795766810169e+09);
CREATE TABLE crgen_run (
    job VARCHAR NOT NULL,
    identity VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    t1 VARCHAR,
    t2 VARCHAR,
    product VARCHAR NOT NULL,
    manifest JSON,
    found_at FLOAT NOT NULL,
    finished_at FLOAT,
    seconds FLOAT,
    windows INTEGER,
    PRIMARY KEY (job, identity)
);
INSERT INTO "crgen_run" VALUES('made','0fcc0bea582c961a4f69de2fcdff19c2f8912e0ddf5f073793267267f15f463e','done','','2021-07-10','2021-07-22','{home}/products/made/made_2021-07-10_2021-07-22_0fcc0bea.tif','null',1.795766742267e+09,1.795766750986e+09,9.4695821330024045892e+00,5);
INSERT INTO "crgen_run" VALUES('unlucky','0fcc0bea582c961a4f69de2fcdff19c2f8912e0ddf5f073793267267f15f463e','pending','','2021-07-10','2021-07-22','{home}/products/unlucky/unlucky_2021-07-10_2021-07-22_0fcc0bea.tif','null',1.795766753131e+09,NULL,NULL,NULL);
INSERT INTO "crgen_run" VALUES('stopped','9755bad4ec64883805524615476d8028679d18bd3f2382ed49248ca15dd7b304','pending','','2021-07-10','2021-07-22','{home}/products/stopped/stopped_2021-07-10_2021-07-22_9755bad4.tif','null',1.795766765965e+09,NULL,NULL,NULL);
INSERT INTO "crgen_run" VALUES('died','9755bad4ec64883805524615476d8028679d18bd3f2382ed49248ca15dd7b304','pending','','2021-07-10','2021-07-22','{home}/products/died/died_2021-07-10_2021-07-22_9755bad4.tif','null',1.795766811554e+09,NULL,NULL,NULL);
COMMIT;